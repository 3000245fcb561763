"""The commands `rllib` (train and evaluate any RLlib algorithm) and `mafql` (this project's own tools)."""
