from . import deep_decoder as deep_decoder
from . import non_local_means as non_local_means
from .deep_decoder import DeepDecoder as DeepDecoder
from .non_local_means import NonLocalMeans as NonLocalMeans
