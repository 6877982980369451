"""What a model hears and what it says: audio, spectra, one predict interface, one file per framework."""
