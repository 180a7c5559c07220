from . import artifacts as artifacts
from . import augment as augment
from . import checkpoint as checkpoint
from . import config as config
from . import core as core
from . import data as data
from . import evaluate as evaluate
from . import losses as losses
from . import networks as networks
from . import objectives as objectives
from . import optim as optim
from . import parallel as parallel
from . import ranges as ranges
from . import report as report
from . import restoration as restoration
from . import results as results
from . import train as train
from . import weights as weights
from .config import Experiment as Experiment
from .config import node as node
from .config import only_with as only_with
from .config import parse as parse

__version__: str
