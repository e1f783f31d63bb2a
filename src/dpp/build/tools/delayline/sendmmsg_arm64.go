package main

const sysSendmmsg = 269 // not in the frozen syscall package
