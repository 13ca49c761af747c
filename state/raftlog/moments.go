package raftlog

// moments hears of each point before and after something is done to the disk, or with what is on it. Tests end the process
// there, or have the disk fail: the error is taken for the disk's. Nil, as it is outside tests, hears nothing.
type moments func(point string) error

func (m moments) around(doing string, do func() error) error {
	if m == nil {
		return do()
	}
	if err := m("before " + doing); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return m("after " + doing)
}
