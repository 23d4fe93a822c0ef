"""Trains the small demo models that ship in ``assets/demo``, from nothing but a drawn world."""
