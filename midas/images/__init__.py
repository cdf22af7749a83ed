"""What images there are, where they lie and how they come to the device, augmented."""
