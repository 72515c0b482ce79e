"""KerasTuner as the engine of a study, in the same store and with the same trainings.

The study's runner and the command line come in.
"""
