from jsnn.astrocytes.li_rinzel import LiRinzel as LiRinzel
