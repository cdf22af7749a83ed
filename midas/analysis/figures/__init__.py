"""How do the paper's figures look, drawn from files?"""
