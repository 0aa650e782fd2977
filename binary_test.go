package b24oauth_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkBinary is by how much the README's program is larger than one with
// golang.org/x/oauth2, both without symbols.
func BenchmarkBinary(b *testing.B) {
	size := func(name string) float64 {
		file := filepath.Join(b.TempDir(), name)
		said, err := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./testdata/binary/"+name).CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, said)
		}
		info, err := os.Stat(file)
		if err != nil {
			b.Fatal(err)
		}
		return float64(info.Size()) / 1e3
	}
	with, without := size("ours"), size("oauth2")
	for b.Loop() {
		// The sizes do not depend on how often they are looked at.
	}
	b.ReportMetric(with-without, "KB-more")
	b.ReportMetric(without, "KB-without")
	b.ReportMetric(0, "ns/op")
}
