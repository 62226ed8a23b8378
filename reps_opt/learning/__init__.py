"""From an environment to a better policy: roll-outs, gradients and advantages, updates, the improvement loop."""
