package docker

import (
	"debug/elf"
	"encoding/binary"
)

// pauseProgram is all that runs in a sandbox: it holds the namespaces, reaps orphans where the Pod shares its process
// namespace, and ends at once when told to. Assembled by hand, as no compiler makes anything this small. It is nil for an
// architecture that nobody has assembled it for: newPauseImage says so.
func pauseProgram(goarch string) []byte {
	switch goarch {
	case "amd64":
		return executable(elf.EM_X86_64, []byte(pauseCodeAMD64))
	case "arm64":
		return executable(elf.EM_AARCH64, []byte(pauseCodeARM64))
	}
	return nil
}

const pauseCodeAMD64 = "" +
	// rt_sigprocmask(SIG_BLOCK, &all, NULL, 8)
	"\x48\x8d\x35\x4f\x00\x00\x00" + // 00 lea rsi, [rip+all]
	"\x31\xff" + // 07 xor edi, edi
	"\x31\xd2" + // 09 xor edx, edx
	"\x6a\x08" + // 0b push 8
	"\x41\x5a" + // 0d pop r10
	"\x6a\x0e" + // 0f push 14
	"\x58" + // 11 pop rax
	"\x0f\x05" + // 12 syscall
	// wait: rt_sigtimedwait(&all, NULL, NULL, 8)
	"\x48\x8d\x3d\x3b\x00\x00\x00" + // 14 lea rdi, [rip+all]
	"\x31\xf6" + // 1b xor esi, esi
	"\x31\xd2" + // 1d xor edx, edx
	"\x6a\x08" + // 1f push 8
	"\x41\x5a" + // 21 pop r10
	"\xb8\x80\x00\x00\x00" + // 23 mov eax, 128
	"\x0f\x05" + // 28 syscall
	"\x83\xf8\x11" + // 2a cmp eax, SIGCHLD
	"\x74\x11" + // 2d je reap
	"\x83\xf8\x0f" + // 2f cmp eax, SIGTERM
	"\x74\x05" + // 32 je exit
	"\x83\xf8\x02" + // 34 cmp eax, SIGINT
	"\x75\xdb" + // 37 jne wait
	// exit: exit(0)
	"\x31\xff" + // 39 xor edi, edi
	"\x6a\x3c" + // 3b push 60
	"\x58" + // 3d pop rax
	"\x0f\x05" + // 3e syscall
	// reap: wait4(-1, NULL, WNOHANG, NULL) until nobody is left
	"\x6a\xff" + // 40 push -1
	"\x5f" + // 42 pop rdi
	"\x31\xf6" + // 43 xor esi, esi
	"\x6a\x01" + // 45 push 1
	"\x5a" + // 47 pop rdx
	"\x45\x31\xd2" + // 48 xor r10d, r10d
	"\x6a\x3d" + // 4b push 61
	"\x58" + // 4d pop rax
	"\x0f\x05" + // 4e syscall
	"\x85\xc0" + // 50 test eax, eax
	"\x7f\xec" + // 52 jg reap
	"\xeb\xbe" + // 54 jmp wait
	// all: every signal
	"\xff\xff\xff\xff\xff\xff\xff\xff" // 56

const pauseCodeARM64 = "" +
	// rt_sigprocmask(SIG_BLOCK, &all, NULL, 8)
	"\xc1\x03\x00\x10" + // 00 adr  x1, all
	"\x00\x00\x80\xd2" + // 04 mov  x0, #0
	"\x02\x00\x80\xd2" + // 08 mov  x2, #0
	"\x03\x01\x80\xd2" + // 0c mov  x3, #8
	"\xe8\x10\x80\xd2" + // 10 mov  x8, #135
	"\x01\x00\x00\xd4" + // 14 svc  #0
	// wait: rt_sigtimedwait(&all, NULL, NULL, 8)
	"\x00\x03\x00\x10" + // 18 adr  x0, all
	"\x01\x00\x80\xd2" + // 1c mov  x1, #0
	"\x02\x00\x80\xd2" + // 20 mov  x2, #0
	"\x03\x01\x80\xd2" + // 24 mov  x3, #8
	"\x28\x11\x80\xd2" + // 28 mov  x8, #137
	"\x01\x00\x00\xd4" + // 2c svc  #0
	"\x1f\x44\x00\x71" + // 30 cmp  w0, #17: SIGCHLD
	"\x00\x01\x00\x54" + // 34 b.eq reap
	"\x1f\x3c\x00\x71" + // 38 cmp  w0, #15: SIGTERM
	"\x60\x00\x00\x54" + // 3c b.eq exit
	"\x1f\x08\x00\x71" + // 40 cmp  w0, #2: SIGINT
	"\xa1\xfe\xff\x54" + // 44 b.ne wait
	// exit: exit(0)
	"\x00\x00\x80\xd2" + // 48 mov  x0, #0
	"\xa8\x0b\x80\xd2" + // 4c mov  x8, #93
	"\x01\x00\x00\xd4" + // 50 svc  #0
	// reap: wait4(-1, NULL, WNOHANG, NULL) until nobody is left
	"\x00\x00\x80\x92" + // 54 mov  x0, #-1
	"\x01\x00\x80\xd2" + // 58 mov  x1, #0
	"\x22\x00\x80\xd2" + // 5c mov  x2, #1
	"\x03\x00\x80\xd2" + // 60 mov  x3, #0
	"\x88\x20\x80\xd2" + // 64 mov  x8, #260
	"\x01\x00\x00\xd4" + // 68 svc  #0
	"\x1f\x00\x00\x71" + // 6c cmp  w0, #0
	"\x2c\xff\xff\x54" + // 70 b.gt reap
	"\xe9\xff\xff\x17" + // 74 b    wait
	// all: every signal
	"\xff\xff\xff\xff\xff\xff\xff\xff" // 78

// executable wraps position-independent code into a static 64-bit Linux program with one segment, readable and executable.
func executable(machine elf.Machine, code []byte) []byte {
	const (
		headerSize, segmentSize = 64, 56
		start                   = headerSize + segmentSize
		base                    = 0x400000
		page                    = 0x10000 // the largest any of our architectures has
	)
	b := append(make([]byte, 0, start+len(code)), 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) // 64 bits, little endian
	half, word, long := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	b = half(b, uint16(elf.ET_EXEC))
	b = half(b, uint16(machine))
	b = word(b, 1)
	b = long(b, base+start) // entry point
	b = long(b, headerSize) // of the segment table
	b = long(b, 0)
	b = word(b, 0)
	for _, v := range []uint16{headerSize, segmentSize, 1, 0, 0, 0} {
		b = half(b, v)
	}
	b = word(b, 1) // the segment is loaded,
	b = word(b, 5) // readable and executable,
	for _, v := range []uint64{0, base, base, uint64(start + len(code)), uint64(start + len(code)), page} {
		b = long(b, v) // and holds the whole file
	}
	return append(b, code...)
}
