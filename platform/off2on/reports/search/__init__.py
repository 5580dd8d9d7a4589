"""What came of a search: its folder in, report.html with its figures and best.yaml out.

search.yaml   what was searched      trials.csv   one row a trial      trials/   their runs, one a seed
"""

from off2on.reports.search.page import write_findings

__all__ = ["write_findings"]
