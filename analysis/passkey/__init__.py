"""The passkey task: a key hidden in a lot of text, asked for at the end; the prompt, its grid and its score.

Source: Ben-Kish et al. 2024 (DeciMamba) and its released code, whose prompt and needle the methods compared here share.
"""
