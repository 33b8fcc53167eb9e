package libvirt

// EmulatePlainly makes domains leave the choice of the emulated processor to
// libvirt, for comparison, until restore is called.
func EmulatePlainly() (restore func()) {
	choices := tcgChoices
	tcgChoices = nil
	return func() { tcgChoices = choices }
}
