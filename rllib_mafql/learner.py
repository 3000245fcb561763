"""MAFQLLearner: one joint batch -> four objectives and Q improvement -> one backward -> one step of every module."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.distributed
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor

from rllib_mafql import losses
from rllib_mafql.modules import CRITIC, TEACHER, FlowPolicy, JointCritic, slices_of
from rllib_mafql.networks import MIN_ACTION_STD
from rllib_mafql.replay import Statistics

# Every one of them is a number or a schedule [[update, value], ...], and switches its term off at 0.
COEFFICIENTS = (
    "flow_matching_coeff",
    "distillation_coeff",
    "bc_coeff",
    "td_coeff",
    "conservative_coeff",
    "q_coeff",
)


class MAFQLLearner(TorchLearner):
    """Updates zone policies (students), teacher and critic from joint batches.

    The batch lies under the module id "critic": obs (B, sum d_i), actions (B, sum m_i), rewards (B,), discounts (B,),
    next_obs (B, sum d_i), behavior (B,) and returns (B,), see :mod:`rllib_mafql.replay`.
    """

    # RLlib declares these for every framework, or Optional.
    config: Any
    module: Any
    metrics: Any

    def build(self) -> None:
        """Builds modules and optimizers, then the views of them that the losses use."""
        super().build()
        self._critic: JointCritic = self.module[CRITIC].unwrapped()
        self._teacher: FlowPolicy = self.module[TEACHER].unwrapped()
        agents = self._critic.model_config["agents"]
        self._agents = [agent for agent, _, _ in agents]
        self._students: list[FlowPolicy] = [self.module[agent].unwrapped() for agent in self._agents]
        self._obs_slices = slices_of([size for _, size, _ in agents])
        self._action_slices = slices_of([size for _, _, size in agents])
        self._coefficients = {
            name: Scheduler(fixed_value_or_schedule=getattr(self.config, name), framework="torch", device=self._device)
            for name in COEFFICIENTS
        }
        self._sums: defaultdict[tuple[str, str], Tensor] = defaultdict(lambda: torch.zeros((), device=self._device))
        self._updates = 0
        if self.config.torch_num_threads is not None:
            torch.set_num_threads(self.config.torch_num_threads)

    def fit_normalizers(self, statistics: Statistics) -> None:
        """Gives every network the mean and standard deviation of joint observations and joint actions."""
        obs_mean, obs_std, act_mean, act_std = (torch.as_tensor(x, device=self._device) for x in statistics)
        act_std = act_std.clamp_min(MIN_ACTION_STD)
        for network in (self._critic.q, self._critic.target_q, self._teacher.field, self._teacher.average):
            network.normalizer.fit(obs_mean, obs_std)
            network.action_normalizer.fit(act_mean, act_std)
        for student, own, act in zip(self._students, self._obs_slices, self._action_slices, strict=True):
            for field in (student.field, student.average):
                field.normalizer.fit(obs_mean[own], obs_std[own])
                field.action_normalizer.fit(act_mean[act], act_std[act])

    # Objectives ------------------------------------------------------------------------------------------------

    def compute_losses(self, *, fwd_out: dict[str, Any] | None = None, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of each module for one joint batch; their sum is what is minimised."""
        b = batch[CRITIC]
        if self.config.obs_noise:
            b = {**b, "obs": self._blur(b["obs"]), "next_obs": self._blur(b["next_obs"])}
        o, a = b["obs"], b["actions"]
        c = {name: float(schedule.get_current_value()) for name, schedule in self._coefficients.items()}
        # Part of the rows start from z = 0, where the policies start when they do not explore: of so many dimensions,
        # noise never comes near it.
        z = torch.randn_like(a) * (torch.rand_like(a[:, :1]) >= self.config.zero_noise_fraction)
        zero = o.new_zeros(())

        mu = self._student_actions(o, z)
        with torch.no_grad():
            teacher = self._teacher.act(o, z) if c["distillation_coeff"] or c["conservative_coeff"] else None

        loss_critic, embedding, advantage = zero, None, None
        if c["td_coeff"] or c["conservative_coeff"] or c["q_coeff"]:
            loss_critic, embedding, advantage = self._critic_loss(b, mu.detach(), teacher, c)
        weight = self._cloning_weight(b["behavior"], advantage)
        loss_teacher = self._teacher_loss(o, a, weight, c) if c["flow_matching_coeff"] else zero
        loss_students = self._student_losses(a, mu, teacher, embedding, weight, c)
        return {CRITIC: loss_critic, TEACHER: loss_teacher, **loss_students}

    def _blur(self, o: Tensor) -> Tensor:
        """Observations (B, sum d_i) with noise: networks of so many inputs learn few days by heart otherwise."""
        return o + self.config.obs_noise * self._critic.q.normalizer.scale * torch.randn_like(o)

    def _student_actions(self, o: Tensor, z: Tensor) -> Tensor:
        """mu(o, z) (B, sum m_i): every student on its own part of observation and noise."""
        parts = zip(self._students, self._obs_slices, self._action_slices, strict=True)
        return torch.cat([student.act(o[:, own], z[:, act]) for student, own, act in parts], -1)

    def _critic_loss(
        self, b: dict[str, Tensor], mu: Tensor, teacher: Tensor | None, c: dict[str, float]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """TD error and conservatism; also the critics' embedding of o and, if in use, the advantage weights (B,)."""
        q_net, o, a = self._critic.q, b["obs"], b["actions"]
        with torch.no_grad():
            next_mu = self._student_actions(b["next_obs"], torch.randn_like(a))
            q_next = self._critic.target_q(self._critic.target_q.encode(b["next_obs"]), next_mu)
        y = losses.td_target(b["rewards"], b["discounts"], q_next, self.config.return_bounds)
        embedding = q_net.encode(o)
        q = q_net(embedding, a)
        td = losses.td_loss(q, y)
        loss = c["td_coeff"] * td
        self._log(CRITIC, td_loss=td, q_mean=q.mean(), td_target_mean=y.mean())

        if c["conservative_coeff"]:
            sampled = [a.new_empty(self.config.num_random_actions, *a.shape).uniform_(-1, 1), mu[None]]
            sampled += [] if teacher is None else [teacher[None]]
            proposals = torch.cat(sampled)
            if self.config.conservatism == "counterfactual":
                agent = torch.randint(len(self._agents), (len(a),), device=a.device)
                proposals = losses.counterfactual_actions(a, proposals, agent, self._action_slices)
            q_sampled = q_net(embedding, proposals)
            if self.config.calibrated:
                # Random actions come first; those of the policies count as no worse than what was seen.
                random, policies = q_sampled.tensor_split([self.config.num_random_actions], 1)
                q_sampled = torch.cat([random, policies.maximum(b["returns"])], 1)
            conservative = losses.conservative_loss(q_sampled, q)
            loss = loss + c["conservative_coeff"] * conservative
            self._log(CRITIC, conservative_loss=conservative)

        weight = None
        if self.config.advantage_temperature is not None:
            with torch.no_grad():
                q_policy = q_net(embedding, mu).mean(0)
                weight = losses.advantage_weights(b["returns"], q_policy, self.config.advantage_temperature)
        return loss, embedding.detach(), weight

    def _cloning_weight(self, behavior: Tensor, advantage: Tensor | None) -> Tensor:
        """Weights (B,) of the cloning objectives: the behaviour policies' actions count in full, others by config."""
        own = self.config.own_cloning_weight
        weight = behavior + own * (1.0 - behavior)
        if advantage is not None:
            weight = weight * advantage
        return weight / weight.mean().clamp_min(1e-6)

    def _teacher_loss(self, o: Tensor, a: Tensor, weight: Tensor, c: dict[str, float]) -> Tensor:
        z, t = torch.randn_like(a), torch.rand_like(a[:, :1])
        field = self._teacher.field
        a = field.action_normalizer(a)
        v = field(field.encode(o), losses.interpolate(a, z, t), t)
        loss = losses.flow_matching_loss(v, a, z, weight)
        self._log(TEACHER, flow_matching_loss=loss)
        return c["flow_matching_coeff"] * loss

    def _student_losses(
        self,
        a: Tensor,
        mu: Tensor,
        teacher: Tensor | None,
        embedding: Tensor | None,
        weight: Tensor,
        c: dict[str, float],
    ) -> dict[str, Tensor]:
        q_term = a.new_zeros(())
        if c["q_coeff"] and embedding is not None:
            # The critics judge here, they do not learn: freezing them spares their gradients.
            self._critic.q.requires_grad_(False)
            q_term = losses.q_loss(self._critic.q(embedding, mu).mean(0))
            self._critic.q.requires_grad_(True)
        # One scale for all components: those that the data move more count for more.
        scale = self._teacher.field.action_normalizer.scale.square().mean().sqrt()
        a, mu = a / scale, mu / scale
        teacher = None if teacher is None else teacher / scale
        result = {}
        for agent, own in zip(self._agents, self._action_slices, strict=True):
            share = (own.stop - own.start) / a.shape[1]
            loss = c["q_coeff"] * q_term / len(self._agents)
            self._log(agent, q_loss=q_term)
            if c["bc_coeff"]:
                bc = losses.behavior_cloning_loss(mu[:, own], a[:, own], weight)
                loss = loss + c["bc_coeff"] * share * bc
                self._log(agent, bc_loss=bc)
            if c["distillation_coeff"] and teacher is not None:
                distillation = losses.distillation_loss(mu[:, own], teacher[:, own])
                loss = loss + c["distillation_coeff"] * share * distillation
                self._log(agent, distillation_loss=distillation)
            result[agent] = loss
        return result

    def compute_loss_for_module(self, **kwargs: Any) -> Tensor:
        """Not used: the objectives couple the modules, see :meth:`compute_losses`."""
        raise NotImplementedError("MAFQL's losses are joint; call compute_losses()")

    # One update ------------------------------------------------------------------------------------------------

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam per module over its trainable parameters (target networks have none)."""
        params = [p for p in self.module[module_id].parameters() if p.requires_grad]
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params),
            params=params,
            lr_or_lr_schedule=config.lr,
        )

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        loss_per_module = self.compute_losses(batch=batch)
        self.compute_gradients(loss_per_module)
        self.apply_gradients({})
        self._critic.update_target(self.config.tau)
        for policy in (*self._students, self._teacher):
            policy.update_average(self.config.average_tau)
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
            for gradient, part in zip(gradients.values(), flat.split(sizes), strict=True):
                gradient.copy_(part.view_as(gradient))
        return gradients

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """Clips each module's gradients by their norm and steps its optimizer, unless the norm is not finite."""
        for module_id in self.module.keys():  # noqa: SIM118 (a MultiRLModule does not iterate over its ids)
            for _, optimizer in self.get_optimizers_for_module(module_id):
                params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                if not params:
                    continue
                norm = torch.nn.utils.clip_grad_norm_(params, self.config.grad_clip or float("inf"))
                finite = bool(torch.isfinite(norm))
                if finite:
                    optimizer.step()
                self._log(module_id, gradient_norm=norm if finite else norm.new_zeros(()))
                self._log(module_id, skipped_updates=norm.new_tensor(0.0 if finite else 1.0))

    def _make_modules_ddp_if_necessary(self) -> None:
        if self.config.num_learners > 1:
            for module in self.module.values():
                for tensor in [*module.parameters(), *module.buffers()]:
                    torch.distributed.broadcast(tensor.data, 0)

    # Schedules and metrics -------------------------------------------------------------------------------------

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Moves the coefficients' schedules to the number of updates done, which the algorithm passes as timesteps."""
        super().before_gradient_based_update(timesteps=timesteps)
        for schedule in self._coefficients.values():
            schedule.update(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the means, over this call's updates, of every term under learners/<module>/<term>."""
        super().after_gradient_based_update(timesteps=timesteps)
        for (module_id, name), total in self._sums.items():
            self.metrics.log_value((module_id, name), total.item() / max(1, self._updates), window=1)
        for name, schedule in self._coefficients.items():
            if schedule.use_schedule:
                self.metrics.log_value((CRITIC, name), float(schedule.get_current_value()), window=1)
        self._sums.clear()
        self._updates = 0

    def _log(self, module_id: str, **values: Tensor) -> None:
        for name, value in values.items():
            self._sums[(module_id, name)] += value.detach()
