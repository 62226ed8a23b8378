from .batch import Batch as Batch
from .certificate import Certificate as Certificate
from .constraints import AtMost as AtMost
from .constraints import Equal as Equal
from .divergences.balls import Ball as Ball
from .exact_iteration import iterate as iterate
from .explorer.serving import explore as explore
from .history import History as History
from .learning.constrained import CPO as CPO
from .learning.fits import importance_weights as importance_weights
from .learning.fitted_updates import (
    EpisodicREPSUpdate as EpisodicREPSUpdate,
)
from .learning.fitted_updates import (
    REPSUpdate as REPSUpdate,
)
from .learning.fitted_updates import (
    RewardWeightedRegression as RewardWeightedRegression,
)
from .learning.gradients import gpomdp as gpomdp
from .learning.gradients import natural_actor_critic as natural_actor_critic
from .learning.gradients import reinforce as reinforce
from .learning.improvement import improve as improve
from .learning.natural_actor_critic import ENAC as ENAC
from .learning.parameter_search import ParameterSearch as ParameterSearch
from .learning.records import NoImprovement as NoImprovement
from .learning.records import Record as Record
from .learning.rollouts import RolloutError as RolloutError
from .learning.rollouts import rollout as rollout
from .learning.updates import TRPO as TRPO
from .learning.updates import NaturalGradient as NaturalGradient
from .learning.updates import VanillaGradient as VanillaGradient
from .metrics import Factor as Factor
from .metrics import Identity as Identity
from .metrics import Product as Product
from .policy_comparison import compare_policies as compare_policies
from .problem import Problem as Problem
from .problems.gradient_steps import (
    ExactNaturalGradient as ExactNaturalGradient,
)
from .problems.gradient_steps import (
    ExactPolicyGradient as ExactPolicyGradient,
)
from .problems.horizon import FiniteHorizonREPS as FiniteHorizonREPS
from .problems.online import ORePS as ORePS
from .problems.policy_steps import ExactTRPO as ExactTRPO
from .problems.policy_steps import surrogate_step as surrogate_step
from .problems.reps import REPS as REPS
from .problems.reps import ConditionalREPS as ConditionalREPS
from .problems.reps import LinearProgram as LinearProgram
from .problems.samples import EpisodicREPS as EpisodicREPS
from .problems.samples import SampleREPS as SampleREPS
from .problems.samples import top_half as top_half
from .problems.steps import TrustRegionStep as TrustRegionStep
from .processes.maps import text_map as text_map
from .processes.mdp import MDP as MDP
from .program import Program as Program
from .solution import Solution as Solution
from .solution import Status as Status
from .solving import solve as solve
from .solving import solve_path as solve_path

__version__: str
