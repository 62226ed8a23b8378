from .batched import BatchedEnv as BatchedEnv
from .cart_pole import CartPole as CartPole
from .chains import (
    double_chain as double_chain,
)
from .chains import (
    lecture_chain as lecture_chain,
)
from .chains import (
    riverswim as riverswim,
)
from .chains import (
    single_chain as single_chain,
)
from .chains import (
    two_state as two_state,
)
from .grids import gridworld as gridworld
from .linear_quadratic import linearise as linearise
from .linear_quadratic import riccati as riccati
from .lqr import LQR as LQR
from .puddle_world import PixelPuddleWorld as PixelPuddleWorld
from .puddle_world import PuddleWorld as PuddleWorld
from .pushing import Pushing as Pushing
from .random_mdps import LayeredMDP as LayeredMDP
from .random_mdps import garnet as garnet
from .random_mdps import layered as layered
from .reaching import Reaching as Reaching
from .registration import register as register
from .swing_up import PixelSwingUp as PixelSwingUp
from .swing_up import SwingUp as SwingUp
from .tabular import TabularEnv as TabularEnv
