"""Transfer learning (section 4.3): kernel SVMs on a bundle's features, fitted to a beamline's own frames."""

from dvfb_stream.training.adaptation.bundle import save_adapted
from dvfb_stream.training.adaptation.heads import Adaptation, LabelledFeatures, LabelOutcome, adapt
from dvfb_stream.training.augmentation import copies_of, turned

__all__ = ["Adaptation", "LabelOutcome", "LabelledFeatures", "adapt", "copies_of", "save_adapted", "turned"]
