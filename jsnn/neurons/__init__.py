from jsnn.neurons.lif import LIF as LIF
