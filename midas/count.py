"""Parameters and multiply-adds of a found cell's network: ``python -m midas.count GENOTYPE``."""

from midas.networks.counting import main

if __name__ == "__main__":
    main()
