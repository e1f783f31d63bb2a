package main

const sysSendmmsg = 307 // not in the frozen syscall package
