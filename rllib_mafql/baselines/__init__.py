"""What MAFQL is compared with, beside RLlib's own algorithms; built like those (`run: GaussianQL` in YAML).

`GaussianQL` and `DiffusionQL` put another policy in place of the flow, and `IndependentFQL` learns every agent by
itself: all in MAFQL's own learner and with its settings, so that one thing differs. `MAPPO` is RLlib's PPO with a
centralised critic.
"""
