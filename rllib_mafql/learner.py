"""MAFQLLearner: one joint batch -> four objectives and Q improvement -> one backward -> one step of every module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from ray.rllib.core import COMPONENT_OPTIMIZER
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor

from rllib_mafql.minibatches import on_device, sliced
from rllib_mafql.modules import CRITIC, TEACHER, FlowPolicy, JointCritic
from rllib_mafql.networks import MAX_NORMALIZED, MIN_ACTION_STD, VelocityField
from rllib_mafql.objectives import COEFFICIENTS, Objectives
from rllib_mafql.optimizers import MovingAverage, fused_adam, step_clipped
from rllib_mafql.products import wants_bfloat16
from rllib_mafql.replay import Statistics

#: Key of the state of torch's generator.
RANDOM_STATE = "torch_rng"


class MAFQLLearner(TorchLearner):
    """Updates zone policies (students), teacher and critic from joint batches.

    The batch lies under the module id "critic": obs (B, sum d_i), actions (B, sum m_i), rewards (B,), discounts (B,),
    next_obs (B, sum d_i), behavior (B,) and returns (B,), see :mod:`rllib_mafql.replay`.
    """

    #: The terms that are minimised.
    objectives_class: type[Objectives] = Objectives

    # RLlib declares these for every framework, or Optional.
    config: Any
    module: Any
    metrics: Any
    _device: Any

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call this actor; its class there is one that Ray made of this one."""
        env = getattr(self.config.env, "__name__", self.config.env)
        return f"MAFQLLearner(env={env}, one of {max(1, self.config.num_learners)})"

    def build(self) -> None:
        """Builds modules and optimizers, then the views of them that the losses use."""
        super().build()
        if self.config.torch_num_threads is not None:
            torch.set_num_threads(self.config.torch_num_threads)
        self._bfloat16 = wants_bfloat16(self.config.precision, self._device)
        # With a seed RLlib asks torch for deterministic algorithms, which then also fills all memory before its use.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._critic: JointCritic = self.module[CRITIC].unwrapped()
        self._teacher: FlowPolicy = self.module[TEACHER].unwrapped()
        self._agents = [agent for agent, _, _ in self._critic.model_config["agents"]]
        self._students: list[FlowPolicy] = [self.module[agent].unwrapped() for agent in self._agents]
        self.objectives = self.build_objectives()
        self._terms = self.objectives.terms
        if self.config.torch_compile_learner:
            self._terms = torch.compile(
                self._terms,
                backend=self.config.torch_compile_learner_dynamo_backend,
                mode=self.config.torch_compile_learner_dynamo_mode,
            )
        policies = [*self._students, self._teacher]
        self._averages = [
            MovingAverage([self._critic.target_q], [self._critic.q], self.config.tau),
            MovingAverage([p.average for p in policies], [p.field for p in policies], self.config.average_tau),
        ]
        self._coefficients = {
            name: Scheduler(fixed_value_or_schedule=getattr(self.config, name), framework="torch", device=self._device)
            for name in COEFFICIENTS
        }
        self._logged: dict[tuple[str, str], Tensor] = {}  # of the current update
        self._sums: Tensor | None = None  # of this call's updates, in the order of _logged
        self._updates = 0

    def build_objectives(self) -> Objectives:
        """The objectives of this learner's modules."""
        flows = all(student.field_class is VelocityField for student in self._students)
        return self.objectives_class(
            self._critic.q,
            self._critic.target_q,
            self._teacher.field,
            [student.field for student in self._students],
            self.config,
            stacked=flows and self._device.type != "cpu",
        )

    def fit_normalizers(self, statistics: Statistics) -> None:
        """Gives every network the mean and scale of joint observations and joint actions.

        The scale is the standard deviation; of a component that is seldom far from its mean it is so much more that
        nothing in the data is clipped.
        """
        obs_mean, obs_std, low, high, act_mean, act_std = (torch.as_tensor(x, device=self._device) for x in statistics)
        obs_scale = torch.maximum(obs_std, torch.maximum(high - obs_mean, obs_mean - low) / MAX_NORMALIZED)
        act_std = act_std.clamp_min(MIN_ACTION_STD)
        for network in (self._critic.q, self._critic.target_q, self._teacher.field, self._teacher.average):
            network.normalizer.fit(obs_mean, obs_scale)
            network.action_normalizer.fit(act_mean, act_std)
        slices = zip(self._students, self.objectives.obs_slices, self.objectives.action_slices, strict=True)
        for student, own, act in slices:
            for field in (student.field, student.average):
                field.normalizer.fit(obs_mean[own], obs_scale[own])
                field.action_normalizer.fit(act_mean[act], act_std[act])

    # Objectives ------------------------------------------------------------------------------------------------

    def compute_losses(self, *, fwd_out: dict[str, Any] | None = None, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of each module for one joint batch; their sum is what is minimised."""
        b = batch[CRITIC]
        c = {name: float(schedule.get_current_value()) for name, schedule in self._coefficients.items()}
        noise = self.objectives.draw(b)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            terms = self._terms(b, noise, frozenset(name for name, value in c.items() if value))

        self._log_terms(terms)
        critic, teacher, students = self.objectives.weigh(terms, c)
        return {CRITIC: critic, TEACHER: teacher, **dict(zip(self._agents, students, strict=True))}

    def _log_terms(self, terms: dict[str, Tensor]) -> None:
        """Logs each term for the modules that it belongs to."""
        for term, value in terms.items():
            name, _, agent = term.partition("/")
            if agent:
                owners = [self._agents[int(agent)]]
            elif name == "q_loss":
                owners = self._agents
            else:
                owners = [TEACHER if name == "flow_matching_loss" else CRITIC]
            self._logged |= {(owner, name): value.detach() for owner in owners}

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        """Not used: the objectives couple the modules, see :meth:`compute_losses`."""
        raise NotImplementedError("MAFQL's losses are joint; call compute_losses()")

    # One update ------------------------------------------------------------------------------------------------

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam per module over its trainable parameters (target networks have none)."""
        params = [p for p in self.module[module_id].parameters() if p.requires_grad]
        self.register_optimizer(
            module_id=module_id,
            optimizer=fused_adam(params),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        super()._set_optimizer_state(state)
        for optimizer in self._named_optimizers.values():
            for group in optimizer.param_groups:  # a state may be of before optimizers were fused
                group["fused"] = True
            schedule = self._optimizer_lr_schedules[optimizer]
            if not schedule.use_schedule:  # a fixed rate is this config's, as a population's trials change it
                self._set_optimizer_lr(optimizer, lr=float(schedule.get_current_value()))

    def _create_iterator_if_necessary(
        self, *, training_data: TrainingData, minibatch_size: int | None = None, **kwargs: Any
    ) -> Iterator[MultiAgentBatch]:
        """Minibatches on the learner's device, drawn (`data_iterators`) or cut from a batch one by one."""
        if training_data.data_iterators:
            minibatches: Any = training_data.data_iterators[0]
        else:
            columns = training_data.batch.policy_batches[CRITIC]  # type: ignore[union-attr]
            minibatches = sliced(columns, minibatch_size or len(columns))
        for tensors in on_device(minibatches, self._device):
            batch = SampleBatch(tensors)
            yield MultiAgentBatch({CRITIC: batch}, env_steps=len(batch))

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        """One update. RLlib would compile all of it; here that are the objectives, see :meth:`build`."""
        self._logged = {}
        loss_per_module = self.compute_losses(batch=batch)
        self.compute_gradients(loss_per_module)
        self.apply_gradients({})
        for average in self._averages:
            average.step()
        values = torch.stack(list(self._logged.values()))
        self._sums = values if self._sums is None else self._sums + values
        self._updates += 1
        return {}, loss_per_module, {}

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict[Any, Tensor]:
        """Gradients of the summed losses, averaged over the learners if there are several."""
        for optimizer in self._optimizer_parameters:
            optimizer.zero_grad(set_to_none=True)
        torch.stack(list(loss_per_module.values())).sum().backward()
        gradients = {ref: p.grad for ref, p in self._params.items() if p.grad is not None}
        if self.config.num_learners > 1:
            # One flat all-reduce. RLlib's DDP wrappers do not see modules called through unwrapped().
            flat = torch.cat([g.flatten() for g in gradients.values()])
            torch.distributed.all_reduce(flat)
            flat /= torch.distributed.get_world_size()
            sizes = [g.numel() for g in gradients.values()]
            for (ref, gradient), part in zip(gradients.items(), flat.split(sizes), strict=True):
                gradients[ref] = self._params[ref].grad = part.view_as(gradient)
        return gradients

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """Clips each module's gradients by their norm and steps its optimizer, unless the norm is not finite."""
        for module_id in self.module.keys():  # noqa: SIM118 (a MultiRLModule does not iterate over its ids)
            for _, optimizer in self.get_optimizers_for_module(module_id):
                stepped = step_clipped(optimizer, self.config.grad_clip)
                if stepped is not None:
                    norm, skipped = stepped
                    self._logged |= {(module_id, "gradient_norm"): norm, (module_id, "skipped_updates"): skipped}

    def _make_modules_ddp_if_necessary(self) -> None:
        if self.config.num_learners > 1:
            for module in self.module.values():
                for tensor in [*module.parameters(), *module.buffers()]:
                    torch.distributed.broadcast(tensor.data, 0)

    # State -----------------------------------------------------------------------------------------------------

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """RLlib's, and with the optimizers' the state of the generator that noise is drawn from."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if COMPONENT_OPTIMIZER in state:
            state[RANDOM_STATE] = self._generator_state().numpy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over a state, an older one too. Of several learners each goes on drawing its own noise."""
        self._weights_seq_no = 0
        super().set_state(state)
        if RANDOM_STATE in state and self.config.num_learners <= 1:
            saved = torch.from_numpy(state[RANDOM_STATE].copy())
            if len(saved) == len(self._generator_state()):  # else it was saved on another kind of device
                (torch.cuda if self._device.type == "cuda" else torch).set_rng_state(saved)

    def _generator_state(self) -> Tensor:
        return (torch.cuda if self._device.type == "cuda" else torch).get_rng_state()

    # Schedules and metrics -------------------------------------------------------------------------------------

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Moves the coefficients' schedules to the number of updates done, which the algorithm passes as timesteps."""
        super().before_gradient_based_update(timesteps=timesteps)
        for schedule in self._coefficients.values():
            schedule.update(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
        self._sums, self._updates = None, 0

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the means, over this call's updates, of every term under learners/<module>/<term>."""
        super().after_gradient_based_update(timesteps=timesteps)
        if self._sums is not None:
            for key, mean in zip(self._logged, (self._sums / self._updates).tolist(), strict=True):
                self.metrics.log_value(key, mean, window=1)
        for name, schedule in self._coefficients.items():
            if schedule.use_schedule:
                self.metrics.log_value((CRITIC, name), float(schedule.get_current_value()), window=1)
