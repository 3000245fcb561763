"""MAFQLConfig: every setting with its default, and the modules that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES

from rllib_mafql.behavior import RANDOM
from rllib_mafql.env_runner import JointEnvRunner
from rllib_mafql.learner import MAFQLLearner
from rllib_mafql.modules import CRITIC, TEACHER, FlowPolicy, JointCritic
from rllib_mafql.offline.data import JointOfflineData
from rllib_mafql.validation import check_each, check_together

# RLlib's mark of an argument that was not given, of any type.
_UNSET: Any = NotProvided


class MAFQLConfig(AlgorithmConfig):
    """Configuration of MAFQL.

    Each ``*_coeff`` is a number or a schedule ``[[0, value], [update, value], ...]``; 0 switches its term off. The
    sources of the terms are named in :mod:`rllib_mafql.losses`. Schedules, that of ``lr`` too, run over learner updates
    and not over environment steps, of which training on recorded data takes none.

    .. testcode::

        from rllib_mafql import MAFQLConfig

        config = (
            MAFQLConfig()
            .environment("grid2op_zones", env_config={"grid": "l2rpn_case14_sandbox"})
            .training(flow_steps=2, conservative_coeff=0.1)
        )
        algorithm = config.build_algo()
    """

    #: The agents' policies; the teacher is a FlowPolicy always.
    policy_class: type[FlowPolicy] = FlowPolicy

    algo_class: Any
    env_runner_cls: Any
    merge_env_runner_states: Any
    grad_clip: Any
    advantage_temperature: float | None
    reward_bounds: tuple[float, float] | None
    offline_data_class: Any
    offline_cloned_policies: Sequence[str] | None
    projected_cloning_distance: float | None
    advisor: str | None
    torch_num_threads: int | None

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or _mafql())
        # fmt: off
        # The objectives.
        self.flow_matching_coeff = 1.0   # teacher: flow matching on recorded joint actions
        self.distillation_coeff = 0.1    # students: distance to the teacher's actions
        self.bc_coeff = 0.1              # students: distance to recorded actions
        self.td_coeff = 1.0              # critic: TD error
        self.conservative_coeff = 0.1    # critic: conservatism
        self.q_coeff = 1.0               # students: - Q(o, mu) / mean|Q|
        self.conservatism = "counterfactual"  # or "joint": sample the action of one agent, or of all
        self.num_random_actions = 1      # uniform samples in the conservative term, beside the policies'
        self.zero_noise_fraction = 0.5   # share of rows on which students and teacher start from z = 0, not from noise
        self.obs_noise = 0.0             # noise on observations while learning, in units of standardised ones
        self.advantage_temperature = None  # weigh cloning by exp(advantage / temperature mean|G|); None: equally

        # Policies.
        self.flow_steps = 1              # Euler steps of the students, 1 to 5
        self.teacher_flow_steps = 5      # Euler steps of the teacher, 1 to 5
        self.average_tau = 0.005         # share by which the averaged weights, which act, follow the trained ones
        self.execution = "decentralized"  # or "centralized": the teacher acts on the joint observation
        self.actor_hidden = 256          # width of the students' layers
        self.teacher_hidden = 256        # width of the teacher's layers
        self.critic_hidden = 256         # width of the critics' layers
        self.hidden_layers = 2           # layers that see the action, in every network
        self.num_critics = 2             # size of the critic ensemble

        # Values.
        self.gamma = 0.98
        self.n_step = 10                 # longest n-step return
        self.tau = 0.005                 # share by which target networks follow
        self.reward_bounds = None        # (least, greatest) reward of a step, if known: bounds Q and its targets
        self.calibrated = True           # conservatism pushes policies' actions no lower than the returns seen (Cal-QL)

        # Data.
        self.replay_capacity = 200_000   # rows; a fragment of T transitions takes T + 1
        self.num_replay_shards = 0       # actors that hold the replay, for hundreds of runners; 0: the driver holds it
        self.custom_resources_per_replay_shard: dict[str, float] = {}  # where these actors run
        self.store_buffer_in_checkpoints = False  # the replay is kept on disk, for restored runs to go on with
        self.warm_start_steps = 1_000    # transitions, recorded or by behaviour policies, before the first update
        self.warm_start_updates = 0      # updates on those alone, before the learned policy plays
        self.behavior_policies = {RANDOM: 1.0}  # name -> weight; the environment's behavior_policy(name) makes them
        self.behavior_noise = 0.0        # noise of the behaviour policies
        self.behavior_fraction = 0.0     # share of later episodes still played by behaviour policies
        self.own_cloning_weight = 0.0  # weight in cloning of actions that no behaviour policy chose, 0 to 1
        self.projected_cloning_distance = None  # clone own actions as executed if a projection moved them so far
        self.advisor = None              # behaviour policy whose actions are cloned, whoever plays; None: those played
        self.takeover_fraction = 0.0     # share of episodes that a behaviour policy takes over midway
        self.takeover_horizon = 100      # the step of the take-over is drawn from 1 to this

        # Recorded data (`offline_data(input_=...)`).
        self.offline_data_class = JointOfflineData
        self.offline_updates = None      # updates on recorded data before the first rollout; None: no rollouts at all
        self.offline_fraction = 0.5      # share of recorded data in every batch after that
        self.offline_cloned_policies = None  # recorded policies whose actions are cloned; None: all behaviour policies'
        self.offline_memory_gb = None    # more than this is streamed; None: half of the free memory
        self.output_write_episodes = False  # rows of joint transitions, not RLlib's episode objects
        self.offline_skip_bad = False    # leave out bad files and row groups, with a warning for each

        # Learning.
        self.lr = 3.0e-4
        self.grad_clip = 10.0            # of each module's gradient norm
        self.train_batch_size_per_learner = 256
        self.num_updates = 50            # learner updates per training step
        self.torch_num_threads = None    # threads of a learner; None: torch's own choice
        self.precision = "float32"       # or "bfloat16": of the networks' products while learning; or "auto"

        # Collecting.
        self.rollout_fragment_length = 100
        self.num_env_runners = 1
        self.num_envs_per_env_runner = 1
        self.env_runner_cls = JointEnvRunner
        self.restart_failed_sub_environments = True
        self.sample_async = False        # runners play while the learner learns, and no slow one is waited for
        # Runners have no connectors whose states RLlib would gather from each of them in every iteration.
        self.merge_env_runner_states = False
        self.broadcast_env_runner_states = False
        self._dont_auto_sync_env_runner_states = True
        # fmt: on

    def training(
        self,
        *,
        flow_matching_coeff: Any = _UNSET,
        distillation_coeff: Any = _UNSET,
        bc_coeff: Any = _UNSET,
        td_coeff: Any = _UNSET,
        conservative_coeff: Any = _UNSET,
        q_coeff: Any = _UNSET,
        conservatism: str = _UNSET,
        num_random_actions: int = _UNSET,
        zero_noise_fraction: float = _UNSET,
        obs_noise: float = _UNSET,
        advantage_temperature: float | None = _UNSET,
        flow_steps: int = _UNSET,
        teacher_flow_steps: int = _UNSET,
        average_tau: float = _UNSET,
        execution: str = _UNSET,
        actor_hidden: int = _UNSET,
        teacher_hidden: int = _UNSET,
        critic_hidden: int = _UNSET,
        hidden_layers: int = _UNSET,
        num_critics: int = _UNSET,
        n_step: int = _UNSET,
        tau: float = _UNSET,
        reward_bounds: tuple[float, float] | None = _UNSET,
        replay_capacity: int = _UNSET,
        num_replay_shards: int = _UNSET,
        custom_resources_per_replay_shard: dict[str, float] = _UNSET,
        store_buffer_in_checkpoints: bool = _UNSET,
        warm_start_steps: int = _UNSET,
        warm_start_updates: int = _UNSET,
        behavior_policies: dict[str, float] = _UNSET,
        behavior_noise: float = _UNSET,
        behavior_fraction: float = _UNSET,
        own_cloning_weight: float = _UNSET,
        projected_cloning_distance: float | None = _UNSET,
        advisor: str | None = _UNSET,
        takeover_fraction: float = _UNSET,
        takeover_horizon: int = _UNSET,
        calibrated: bool = _UNSET,
        offline_updates: int | None = _UNSET,
        offline_fraction: float = _UNSET,
        offline_cloned_policies: Sequence[str] | None = _UNSET,
        offline_memory_gb: float | None = _UNSET,
        offline_skip_bad: bool = _UNSET,
        num_updates: int = _UNSET,
        torch_num_threads: int | None = _UNSET,
        precision: str = _UNSET,
        **kwargs: Any,
    ) -> MAFQLConfig:
        """Sets what belongs to training; each argument is explained by the comment at its default in `__init__`."""
        own = {k: v for k, v in locals().items() if k not in ("self", "kwargs") and not k.startswith("_")}
        super().training(**kwargs)
        for name, value in own.items():
            if value is not _UNSET:
                setattr(self, name, value)
        return self

    def env_runners(self, *, sample_async: bool = _UNSET, **kwargs: Any) -> MAFQLConfig:
        """Sets what belongs to collecting.

        Args:
            sample_async: runners play while the learner learns. Training steps take what is ready and go on: each makes
                `num_updates` updates, however many steps came in, so the ratio of updates to environment steps follows
                from how fast runners and learner are; synchronously it is `num_updates` to the steps of one round. How
                far the weights that were played with are behind is bounded by `max_requests_in_flight_per_env_runner`,
                and reported as mafql/sample_staleness_mean and _max. Runs are not reproducible then.
            kwargs: as in RLlib.
        """
        super().env_runners(**kwargs)
        if sample_async is not _UNSET:
            self.sample_async = sample_async
        return self

    @property
    def is_multi_agent(self) -> bool:
        """Always: every agent has a policy module under its own id, found from the environment."""
        return True

    @property
    def return_bounds(self) -> tuple[float, float] | None:
        """(least, greatest) discounted return that reward_bounds allow, or None."""
        if self.reward_bounds is None:
            return None
        low, high = self.reward_bounds
        horizon = 1.0 / (1.0 - self.gamma)
        return min(low, low * horizon), max(high, high * horizon)

    def validate(self) -> None:
        """Raises ValueError, naming the field and what would be right."""
        check_each(self)
        super().validate()
        check_together(self)

    def get_default_learner_class(self) -> type[MAFQLLearner]:
        """The one learner of MAFQL."""
        return MAFQLLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """An agent's policy."""
        return RLModuleSpec(
            module_class=self.policy_class, model_config=self._flow_config(self.actor_hidden, self.flow_steps)
        )

    def get_multi_rl_module_spec(
        self,
        *,
        env: Any = None,
        spaces: dict[str, Any] | None = None,
        inference_only: bool = False,
        **kwargs: Any,
    ) -> MultiRLModuleSpec:
        """A policy per agent and, for the learner, critic and teacher; runners get the teacher only if it acts."""
        if spaces is None:
            if env is None:
                raise ValueError("MAFQL needs `env` or `spaces` to build its modules")
            spaces = {a: (env.get_observation_space(a), env.get_action_space(a)) for a in env.possible_agents}
        boxes = {k: v for k, v in spaces.items() if k not in (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES)}
        for reserved in {CRITIC, TEACHER} & set(boxes):
            raise ValueError(f"an agent may not be called {reserved!r}: MAFQL's own module has that name")
        specs = {}
        for agent, (obs, act) in boxes.items():
            spec = self.get_default_rl_module_spec()
            spec.observation_space, spec.action_space, spec.inference_only = obs, act, inference_only
            specs[agent] = spec
        sizes = [[agent, obs.shape[0], act.shape[0]] for agent, (obs, act) in boxes.items()]
        joint_obs = gym.spaces.Box(-np.inf, np.inf, (sum(d for _, d, _ in sizes),), np.float32)
        joint_act = gym.spaces.Box(-1.0, 1.0, (sum(m for _, _, m in sizes),), np.float32)
        if not inference_only or self.execution == "centralized":
            specs[TEACHER] = RLModuleSpec(
                module_class=FlowPolicy,
                observation_space=joint_obs,
                action_space=joint_act,
                inference_only=inference_only,
                model_config=self._flow_config(self.teacher_hidden, self.teacher_flow_steps),
            )
        if not inference_only:
            specs[CRITIC] = RLModuleSpec(
                module_class=JointCritic,
                observation_space=joint_obs,
                action_space=joint_act,
                learner_only=True,
                model_config={
                    "hidden": self.critic_hidden,
                    "layers": self.hidden_layers,
                    "ensemble": self.num_critics,
                    "bounds": self.return_bounds,
                    "agents": sizes,
                },
            )
        return MultiRLModuleSpec(rl_module_specs=specs)

    def _flow_config(self, hidden: int, flow_steps: int) -> dict[str, int]:
        return {"hidden": hidden, "layers": self.hidden_layers, "flow_steps": flow_steps}


def _mafql() -> type:
    from rllib_mafql.algorithm import MAFQL  # which imports this module

    return MAFQL
