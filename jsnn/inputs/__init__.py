from jsnn.inputs._common import Cells as Cells
from jsnn.inputs._common import Prepared as Prepared
from jsnn.inputs._common import Target as Target
from jsnn.inputs.currents import NoiseCurrent as NoiseCurrent
from jsnn.inputs.currents import StepCurrent as StepCurrent
from jsnn.inputs.poisson import Poisson as Poisson
from jsnn.inputs.spike_list import SpikeList as SpikeList
