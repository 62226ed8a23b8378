from .features import (
    FourierFeatures as FourierFeatures,
)
from .features import (
    PolynomialStates as PolynomialStates,
)
from .features import (
    RBFFeatures as RBFFeatures,
)
from .gp import GaussianProcessPolicy as GaussianProcessPolicy
from .kernels import SquaredExponential as SquaredExponential
from .linear import LinearGaussianPolicy as LinearGaussianPolicy
from .neural import NeuralCategoricalPolicy as NeuralCategoricalPolicy
from .neural import NeuralPolicy as NeuralPolicy
from .rbf import RBFPolicy as RBFPolicy
from .softmax import SoftmaxPolicy as SoftmaxPolicy
from .storage import load as load
from .storage import save as save
from .tabular import TabularPolicy as TabularPolicy
