document.title = "smsbridge simulator";
