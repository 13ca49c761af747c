package docker

import "encoding/binary"

// pauseProgram is all that runs in a sandbox: it holds the namespaces, reaps orphans where the Pod shares its process
// namespace, and ends at once when told to. Assembled by hand, as no compiler makes anything this small.
func pauseProgram() []byte { return elf(elfMachineAMD64, pauseCode()) }

func pauseCode() []byte {
	return []byte{
		// rt_sigprocmask(SIG_BLOCK, &all, NULL, 8)
		0x48, 0x8d, 0x35, 0x4f, 0x00, 0x00, 0x00, // 00 lea  rsi, [rip+all]
		0x31, 0xff, //                               07 xor  edi, edi
		0x31, 0xd2, //                               09 xor  edx, edx
		0x6a, 0x08, //                               0b push 8
		0x41, 0x5a, //                               0d pop  r10
		0x6a, 0x0e, //                               0f push 14
		0x58,       //                               11 pop  rax
		0x0f, 0x05, //                               12 syscall
		// wait: rt_sigtimedwait(&all, NULL, NULL, 8)
		0x48, 0x8d, 0x3d, 0x3b, 0x00, 0x00, 0x00, // 14 lea  rdi, [rip+all]
		0x31, 0xf6, //                               1b xor  esi, esi
		0x31, 0xd2, //                               1d xor  edx, edx
		0x6a, 0x08, //                               1f push 8
		0x41, 0x5a, //                               21 pop  r10
		0xb8, 0x80, 0x00, 0x00, 0x00, //             23 mov  eax, 128
		0x0f, 0x05, //                               28 syscall
		0x83, 0xf8, 0x11, //                         2a cmp  eax, SIGCHLD
		0x74, 0x11, //                               2d je   reap
		0x83, 0xf8, 0x0f, //                         2f cmp  eax, SIGTERM
		0x74, 0x05, //                               32 je   exit
		0x83, 0xf8, 0x02, //                         34 cmp  eax, SIGINT
		0x75, 0xdb, //                               37 jne  wait
		// exit: exit(0)
		0x31, 0xff, //                               39 xor  edi, edi
		0x6a, 0x3c, //                               3b push 60
		0x58,       //                               3d pop  rax
		0x0f, 0x05, //                               3e syscall
		// reap: wait4(-1, NULL, WNOHANG, NULL) until nobody is left
		0x6a, 0xff, //                               40 push -1
		0x5f,       //                               42 pop  rdi
		0x31, 0xf6, //                               43 xor  esi, esi
		0x6a, 0x01, //                               45 push 1
		0x5a,             //                         47 pop  rdx
		0x45, 0x31, 0xd2, //                         48 xor  r10d, r10d
		0x6a, 0x3d, //                               4b push 61
		0x58,       //                               4d pop  rax
		0x0f, 0x05, //                               4e syscall
		0x85, 0xc0, //                               50 test eax, eax
		0x7f, 0xec, //                               52 jg   reap
		0xeb, 0xbe, //                               54 jmp  wait
		// all: every signal
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // 56
	}
}

const elfMachineAMD64 = 62

// elf wraps position-independent code into a static 64-bit Linux program with one segment, readable and executable.
func elf(machine uint16, code []byte) []byte {
	const (
		headerSize, segmentSize = 64, 56
		start                   = headerSize + segmentSize
		base                    = 0x400000
		page                    = 0x10000 // the largest any of our architectures has
	)
	b := append(make([]byte, 0, start+len(code)), 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) // 64 bits, little endian
	half, word, long := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	b = half(b, 2) // executable
	b = half(b, machine)
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
