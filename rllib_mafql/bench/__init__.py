"""`mafql bench`: what the parts of MAFQL cost, measured side by side in one run."""
