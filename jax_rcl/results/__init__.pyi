from . import runs as runs
from . import sweeps as sweeps
from . import table as table
from . import trials as trials
from .table import Row as Row
from .table import Run as Run
from .table import Table as Table
from .table import load as load
