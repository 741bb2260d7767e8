"""The classical interpolations: the baselines that every table starts with."""
