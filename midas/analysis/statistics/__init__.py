"""What do the weights say of unimodality, classes and spread, and a few seeds of any number?"""
