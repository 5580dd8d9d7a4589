"""The report of a search: from its folder to report.html, figures and best.yaml.

search.yaml   the search      trials.csv   a row per trial      trials/   the runs of the trials, one per seed
"""

from off2on.reports.search.page import write_search_report

__all__ = ["write_search_report"]
