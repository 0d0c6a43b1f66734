"""What the tests share: fixtures, the leak check, the features that a machine may lack."""
