"""A published cell as the file that a retraining reads: ``python -m midas.genotype TEXT FILE``."""

from midas.spaces.genotype import main

if __name__ == "__main__":
    main()
