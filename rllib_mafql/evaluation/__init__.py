"""Agents on held-out episodes: who plays (agents, policies), the play (rollouts), what comes of it (results, plots)."""
