"""What the methods that descend a dual step by step have in common: how far a step may go, and when it is enough."""
