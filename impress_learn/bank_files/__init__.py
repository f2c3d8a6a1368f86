"""What is made once for a bank: masks, calibration images, task classifier, projection."""
