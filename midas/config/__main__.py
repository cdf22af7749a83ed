"""``python -m midas.config schema|table``."""

from midas.config.keys import main

if __name__ == "__main__":
    main()
