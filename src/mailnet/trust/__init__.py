"""How far a prediction can be believed: calibration, sets with a guarantee, uncertainty, abstention, foreign studies.

Functions on arrays alone, so that a program without torch can use them.
"""
