"""Diagnosis of data: faults, oddities and statistics, computed in one pass over the rows.

    diagnosis = diagnose_shards(open_shards("hopper-medium-v2"))
    for finding in diagnosis.findings:
        print(finding.severity, finding.check, finding.what, finding.do)

Each check has its own file. Checks that must see every row (`DataCheck`) count in one pass over blocks of
whole episodes; the others use the table of episodes or a random sample of the rows. Memory is bounded for
data of any size, except for about fifty bytes per episode.
"""

from datasets_io.diagnosis.diagnose import Diagnosis, diagnose_shards, diagnose_source
from datasets_io.diagnosis.finding import Fact, Finding

__all__ = ["Diagnosis", "Fact", "Finding", "diagnose_shards", "diagnose_source"]
