from . import console as console
from . import figures as figures
from . import log as log
from . import page as page
from . import tables as tables
