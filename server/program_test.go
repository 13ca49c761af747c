package server

import (
	"bufio"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMappingsAreReadWithWhatWasWritten(t *testing.T) {
	const smaps = `00400000-02467000 r-xp 00000000 fe:00 9977876                            /usr/bin/mainstay
Rss:               31132 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
0485c000-04974000 r--p 0445c000 fe:00 9977876                            /usr/bin/mainstay
Anonymous:            12 kB
7ffd0000-7ffe0000 rw-p 00000000 00:00 0 
Anonymous:            16 kB
`
	got, err := readMappings(bufio.NewScanner(strings.NewReader(smaps)))
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{
		{from: 0x400000, to: 0x2467000, mode: "r-xp", path: "/usr/bin/mainstay"},
		{from: 0x485c000, to: 0x4974000, mode: "r--p", path: "/usr/bin/mainstay", anonymous: true},
		{from: 0x7ffd0000, to: 0x7ffe0000, mode: "rw-p", anonymous: true},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

func TestProgramRunsOnAfterItWasShrunk(t *testing.T) {
	if err := shrinkProgram(); err != nil {
		t.Fatal(err)
	}
	TestMappingsAreReadWithWhatWasWritten(t)
}
