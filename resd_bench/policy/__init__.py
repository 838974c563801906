"""Language models as policies: loading, tokens, sampling engines, the optimiser step, the teacher.

Nothing is imported here, so that the harness can read types without importing torch.
"""
