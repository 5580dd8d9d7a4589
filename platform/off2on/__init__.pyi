from off2on.api import Callbacks as Callbacks
from off2on.api import LoadedRun as LoadedRun
from off2on.api import evaluate as evaluate
from off2on.api import load_run as load_run
from off2on.api import open_dataset as open_dataset
from off2on.api import train as train

__version__: str
