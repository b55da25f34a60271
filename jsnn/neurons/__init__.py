from jsnn.neurons.hodgkin_huxley import HodgkinHuxley as HodgkinHuxley
from jsnn.neurons.lif import LIF as LIF
