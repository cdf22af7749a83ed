"""Methods ranked by benchmark and by retraining setting: table S1 and figure S1."""
