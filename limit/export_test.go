package limit

// Portals returns how many portals are remembered.
func Portals(b *Process) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.portals)
}
