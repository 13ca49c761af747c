package docker

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPauseProgramsAreExecutables(t *testing.T) {
	for goarch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program := pauseProgram(goarch)
		f, err := elf.NewFile(bytes.NewReader(program))
		check(t, err)
		if f.Machine != machine || f.Type != elf.ET_EXEC || f.Class != elf.ELFCLASS64 || len(f.Progs) != 1 {
			t.Fatalf("%s: %+v", goarch, f.FileHeader)
		}
		segment := f.Progs[0].ProgHeader
		if segment.Flags != elf.PF_R|elf.PF_X || segment.Filesz != uint64(len(program)) || segment.Vaddr%segment.Align != segment.Off%segment.Align {
			t.Errorf("%s: %+v", goarch, segment)
		}
		if segment.Align < 64<<10 {
			t.Errorf("%s: kernels with pages of 64 KiB refuse an alignment of %d", goarch, segment.Align)
		}
	}
}

// The machine that tests run on need not be an arm64: the few instructions the program has are carried out here.
func TestPauseOnARM64EndsWhenToldAndReaps(t *testing.T) {
	const sigchld, sigterm, sigint, sighup = 17, 15, 2, 1
	block, wait, reap, exit := "rt_sigprocmask(0, all, 0, 8)", "rt_sigtimedwait(all, 0, 0, 8)", "wait4(-1, 0, 1, 0)", "exit(0)"
	for name, tc := range map[string]struct {
		answers []int64 // to the calls after the first
		want    []string
	}{
		"SIGTERM":             {[]int64{sigterm}, []string{block, wait, exit}},
		"SIGINT":              {[]int64{sigint}, []string{block, wait, exit}},
		"a harmless signal":   {[]int64{sighup, sigterm}, []string{block, wait, wait, exit}},
		"an interrupted wait": {[]int64{-4, sigterm}, []string{block, wait, wait, exit}},
		"two orphans":         {[]int64{sigchld, 300, 301, 0, sigterm}, []string{block, wait, reap, reap, reap, wait, exit}},
		"no child at all":     {[]int64{sigchld, -10, sigint}, []string{block, wait, reap, wait, exit}},
	} {
		t.Run(name, func(t *testing.T) {
			m := arm64{code: []byte(pauseCodeARM64), answers: append([]int64{0}, tc.answers...)}
			if err := m.run(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, m.calls); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// arm64 carries out a program that only calls the kernel and branches on the answers.
type arm64 struct {
	code    []byte
	x       [31]int64
	pc      int
	cmp     int64   // what the last comparison left
	answers []int64 // the kernel's, in order
	calls   []string
}

func (m *arm64) run() error {
	for range 1000 {
		if m.pc < 0 || m.pc+4 > len(m.code) {
			return fmt.Errorf("it ran to %#x", m.pc)
		}
		at, word := m.pc, binary.LittleEndian.Uint32(m.code[m.pc:])
		m.pc += 4
		if word == 0xd4000001 { // svc #0
			if done, err := m.call(); done || err != nil {
				return err
			}
		} else if err := m.step(at, word); err != nil {
			return err
		}
	}
	return fmt.Errorf("it never ended: %q", m.calls)
}

func (m *arm64) step(at int, word uint32) error {
	d, imm16, imm19 := word&31, int64(word>>5&0xffff), int(int32(word<<8)>>13)*4
	switch {
	case word&0xffe00000 == 0xd2800000: // movz
		m.x[d] = imm16
	case word&0xffe00000 == 0x92800000: // movn
		m.x[d] = ^imm16
	case word&0xff000000 == 0x10000000: // adr, of whole words
		m.x[d] = int64(at + imm19)
	case word&0xffc0001f == 0x7100001f: // cmp w, #imm
		m.cmp = int64(int32(m.x[word>>5&31])) - int64(word>>10&0xfff)
	case word&0xff000010 == 0x54000000: // b.cond
		if holds, known := map[uint32]bool{0: m.cmp == 0, 1: m.cmp != 0, 12: m.cmp > 0}[word&15]; !known {
			return fmt.Errorf("condition %d at %#x", word&15, at)
		} else if holds {
			m.pc = at + imm19
		}
	case word&0xfc000000 == 0x14000000: // b
		m.pc = at + int(int32(word<<6)>>6)*4
	default:
		return fmt.Errorf("instruction %#08x at %#x", word, at)
	}
	return nil
}

// call is the kernel. It says whether the program has ended.
func (m *arm64) call() (bool, error) {
	names := map[int64]string{135: "rt_sigprocmask", 137: "rt_sigtimedwait", 93: "exit", 260: "wait4"}
	text := func(v int64) string {
		if v > 0 && v+8 <= int64(len(m.code)) && bytes.Equal(m.code[v:v+8], bytes.Repeat([]byte{0xff}, 8)) {
			return "all"
		}
		return fmt.Sprint(v)
	}
	name := names[m.x[8]]
	if name == "exit" {
		m.calls = append(m.calls, fmt.Sprintf("exit(%d)", m.x[0]))
		return true, nil
	}
	m.calls = append(m.calls, fmt.Sprintf("%s(%s, %s, %s, %s)", name, text(m.x[0]), text(m.x[1]), text(m.x[2]), text(m.x[3])))
	if len(m.answers) == 0 {
		return true, fmt.Errorf("more calls than answers: %q", m.calls)
	}
	m.x[0], m.answers = m.answers[0], m.answers[1:]
	return false, nil
}
