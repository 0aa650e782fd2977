package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	show   = flag.Bool("table", false, "print the table of TestScenarios")
	update = flag.Bool("update", false, "write the table of TestScenarios to testdata/table.md")
)

// TestScenarios measures every library in every scenario. What b24oauth must
// show is written down with the scenario; what the others show is compared
// with testdata/table.md, so that a new version of one of them cannot make
// that table wrong unnoticed.
func TestScenarios(t *testing.T) {
	header := []string{"100 goroutines"}
	for _, l := range others {
		header = append(header, l.name)
	}
	rows := [][]string{append(header, ours)}
	for _, sc := range scenarios {
		row := []string{sc.title}
		for _, l := range others {
			row = append(row, measure(t, sc, l))
		}
		rows = append(rows, append(row, measureOurs(t, sc)))
	}
	got := markdown(rows)
	t.Log("\n" + got)
	if *show {
		fmt.Print(got)
	}
	if strings.Contains(got, "|  |") {
		return // -run left scenarios or libraries out
	}
	golden := filepath.Join("testdata", "table.md")
	if *update && !t.Failed() {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what was measured (-file +measured):\n%s", golden, diff)
	}
}

func measure(t *testing.T, sc scenario, l library) (cell string) {
	t.Run(sc.title+"/"+l.name, func(t *testing.T) {
		if l.mutex && !sc.alone {
			cell = inRealTime(t, sc, l)
			return
		}
		cell = inBubble(t, sc, func(t *testing.T, c conditions) *subject { return l.open(t, c, true) })
	})
	return cell
}

func measureOurs(t *testing.T, sc scenario) (cell string) {
	t.Run(sc.title+"/"+ours, func(t *testing.T) {
		cell = inBubble(t, sc, openOurs)
		if sc.many != nil {
			one := cell
			sc.measure = sc.many
			if cell = inBubble(t, sc, openOurs); cell == one {
				cell += ", also for 10,000"
			}
		}
		if cell != sc.ours {
			t.Errorf("%s: %s, want %s", sc.title, cell, sc.ours)
		}
	})
	return cell
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}
