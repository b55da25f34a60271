from jsnn.neurons.adex import AdEx as AdEx
from jsnn.neurons.hodgkin_huxley import Channel as Channel
from jsnn.neurons.hodgkin_huxley import Exp as Exp
from jsnn.neurons.hodgkin_huxley import Gate as Gate
from jsnn.neurons.hodgkin_huxley import HodgkinHuxley as HodgkinHuxley
from jsnn.neurons.hodgkin_huxley import Linoid as Linoid
from jsnn.neurons.hodgkin_huxley import Sigmoid as Sigmoid
from jsnn.neurons.lif import LIF as LIF
