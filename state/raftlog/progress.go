package raftlog

// Index is the newest entry in this server's log.
func (l *Log) Index() uint64 { return l.raft.LastIndex() }
