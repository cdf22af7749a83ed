"""What images are there, and how do they come to the device, augmented?"""
