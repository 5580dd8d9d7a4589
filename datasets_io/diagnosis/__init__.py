"""The doctor: one pass over any data, and what is wrong, odd or worth knowing about them.

    diagnosis = diagnose_shards(open_shards("hopper-medium-v2"))
    for finding in diagnosis.findings:
        print(finding.severity, finding.check, finding.what, finding.do)

Every check is a file of its own. Those that must see each row (`Check`) count in one pass over blocks of
whole episodes; the others look at the table of episodes or at a random sample of the rows. Memory is bounded,
whatever the size of the data, but for some fifty bytes an episode.
"""

from datasets_io.diagnosis.diagnose import Diagnosis, diagnose_shards, diagnose_source
from datasets_io.diagnosis.finding import Fact, Finding

__all__ = ["Diagnosis", "Fact", "Finding", "diagnose_shards", "diagnose_source"]
